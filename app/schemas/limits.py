"""How many parts a request may have, for every protocol: each is checked before anything is built of them.

Bytes of a body, pixels, queued requests and streams are settings (RCNN_MAX_…); these are not.
"""

# the head

MAX_QUERY_PARAMETERS = 1100
"""`classes` may be repeated once a class, and the largest models have about a thousand."""

MAX_MEDIA_TYPE = 1024
"""Characters of a Content-Type: each semicolon begins an option."""

MAX_ACCEPT = 4096
"""Characters of Accept that are read; those of browsers have about 200."""

# every body

MAX_LOOP_BYTES = 64 * 1024
"""Larger bodies are parsed, and larger answers written, on a thread: the event loop serves all requests."""

MAX_JSON_VALUES = 4096
"""Values in a JSON body, without the numbers of a tensor: 1000 class names, and commas within them.

A value costs up to 1000 bytes and 5 µs where it is wrong, so that this many cost 20 ms.
"""

MAX_FORM_PARTS = 64
"""Of another server's form: far more than any has."""

MAX_FIELD_BYTES = 64 * 1024
"""Of a part of a form that is no file."""

MAX_OPTIONS_TEXT = 16 * 1024
"""Characters of a web socket's message with options."""

# lists and texts

MAX_IMAGES = 32
"""In one request. More would gain nothing: the service forms batches across requests."""

MAX_MODELS = 8
"""In one request: the image is prepared and detected once for each."""

MAX_MODEL_NAME = 200
"""Characters of a model's name, version or alias; a card's name has at most 64."""

MAX_CLASSES = 1000
"""In a list of class names."""

MAX_CLASSES_TEXT = 64 * 1024
"""Characters of all class names together: as many as fit into a query."""

MAX_REGIONS = 32
"""Regions of interest of a request."""

MAX_REGION_NUMBERS = 512
"""Of all its regions together: each of their corners is compared with each box."""

MAX_NAME = 1024
"""Characters of a name, a key or an id."""

MAX_URL = 8192
"""Characters of an image's URL: signed ones have about 2000."""

# the Open Inference Protocol

MAX_TENSOR_INPUTS = 2
"""The image alone, or with its size."""

MAX_TENSOR_OUTPUTS = 8
"""Twice as many as there are."""

MAX_TENSOR_PARAMETERS = 64
"""More than there are options."""

MAX_TENSOR_RANK = 8
"""Dimensions of a shape, and lists within each other in `data`."""

MAX_MESSAGE_FIELDS = 1000
"""Of a gRPC message at every depth, packed numbers by their bytes: 64 parameters, 32 images, every output."""

MAX_MESSAGE_TEXT = 128 * 1024
"""Bytes of all texts of a gRPC message, which are names and options: twice the longest query."""

# error messages

MAX_QUOTED = 60
"""Characters of a client's value that an error message repeats."""

MAX_QUOTED_FAULTS = 5
"""The first faults of a request in its error message; the rest is left out."""
