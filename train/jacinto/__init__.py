"""JacintoNet11 in stages, dense, sparse and quantized: ``python -m train.jacinto``."""
