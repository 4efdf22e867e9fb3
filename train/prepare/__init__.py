"""Gets images ready for training: ``python -m train.prepare --help`` says what it can do."""
