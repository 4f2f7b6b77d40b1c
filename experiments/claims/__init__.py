"""Which of the claims about SCS hold?"""
