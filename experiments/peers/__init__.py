"""What do other libraries offer, and what do their users ask for? Does scs_jax have it?"""
