"""One module per migration, each naming the one before it."""
