"""One way to write a vector as bytes a file; `letheon.federation.encoding` chooses among them."""
