"""One file per dataset: what its folders and tables mean, as a `Listing` of studies."""
