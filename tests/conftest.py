import os

# the networks of the tests are too small to share: one thread each, here and in the processes that tests start
os.environ["OMP_NUM_THREADS"] = "1"
