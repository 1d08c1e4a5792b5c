terraform {
  # No provider: the module downloads nothing, and only generates text.
  required_version = ">= 1.3"
}
