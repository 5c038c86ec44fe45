"""Answers that were made elsewhere: a prompt and several answers in each row of a file."""
