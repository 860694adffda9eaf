"""Makes cards and weights of checkpoints of detectron2, mmdetection and torchvision."""
