"""Where the files of a dataset lie: splits in folders, and the images that annotations name."""
