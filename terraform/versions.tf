terraform {
  # No provider: nothing is downloaded, and nothing but text is made.
  required_version = ">= 1.3"
}
