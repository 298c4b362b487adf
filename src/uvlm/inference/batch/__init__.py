"""Many studies: in parallel, resumable, one failure apart from the others."""
