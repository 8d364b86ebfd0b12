"""Who runs points besides this thread: threads, executors, own processes, Dask."""
