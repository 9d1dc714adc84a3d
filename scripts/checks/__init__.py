"""Commands for whoever changes the code: did a number change, and what did the reliability tests count?"""
