"""How fast can a host feed a chip?"""
