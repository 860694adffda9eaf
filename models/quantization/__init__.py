"""A model's static parts in int8 (NNCF, post-training), measured against fp32 before they are kept."""
