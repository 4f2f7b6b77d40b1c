"""How does a signal get through fifty SCS layers?"""
