"""Early stopping: whether flat-start blocks may be trusted, the race over them, its account."""
