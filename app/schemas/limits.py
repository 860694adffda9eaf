"""How many parts a request may have, for every protocol: each is checked before anything is built of them."""

MAX_QUERY_PARAMETERS = 1100
"""`classes` may be repeated once a class, and the largest models have about a thousand."""

MAX_FORM_PARTS = 64
"""Of another server's form: far more than any has."""

MAX_TENSOR_INPUTS = 2
"""Of the Open Inference Protocol: the image alone, or with its size."""

MAX_TENSOR_OUTPUTS = 8
"""Of the Open Inference Protocol: twice as many as there are."""

MAX_TENSOR_PARAMETERS = 64
"""Of the Open Inference Protocol: more than there are options."""

MAX_MESSAGE_FIELDS = 1000
"""Of a gRPC message at every depth, packed numbers by their bytes: 64 parameters, 32 images, every output."""

MAX_QUOTED_FAULTS = 3
"""The first faults of a request in its error message; the rest is left out."""
