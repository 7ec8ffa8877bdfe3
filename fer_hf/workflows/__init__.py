"""What people do with the package, each as one function that reads from top to bottom: train, evaluate, export, ...

A command of `fer-hf` parses its options, calls one of these functions and prints what it returns; a notebook calls the
same function. They print nothing and leave no setting of the process behind.
"""
