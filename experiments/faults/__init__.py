"""What does a run do when something goes wrong?"""
