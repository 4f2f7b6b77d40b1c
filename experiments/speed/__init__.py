"""What does an SCS layer cost, beside the block that it replaces?"""
