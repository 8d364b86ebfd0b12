"""The trained model as a value: predict, save as plain files, load and verify."""
