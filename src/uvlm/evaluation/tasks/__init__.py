"""One module per task of `uvlm evaluate`: files in, a result out."""
