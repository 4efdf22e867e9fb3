"""The record formats of MXNet (RecordIO) and of Caffe (Datum in LMDB), byte by byte.

Nothing here knows what an image is; :mod:`train.dataset_open` puts images on top.
"""
