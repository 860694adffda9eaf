"""The classes of the model that serves, as `spec` of function.yaml has them: python labels.py"""

import json

from rcnn_client import Client

with Client() as client:
    labels = client.labels()
print(json.dumps([{"id": label, "name": name, "type": "rectangle"} for label, name in labels.items()]))
