"""Does `run_tpu.sh` end with one run, its exit code and its log, whatever happens?"""
