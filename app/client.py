"""The client under its old name, for one release: it is the distribution rcnn-client now."""

import warnings

from rcnn_client import *  # noqa: F403 # an alias: every public name of the client

warnings.warn("app.client is now rcnn_client; import that", DeprecationWarning, stacklevel=2)
