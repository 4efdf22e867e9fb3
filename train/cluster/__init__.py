"""Training as a job of a cluster: ``python -m train.cluster submit config.yaml``."""
