"""A demo page with Gradio: python demo.py"""

import numpy as np
import numpy.typing as npt

from rcnn_client import Client, ClientError

client = Client()  # RCNN_URL and RCNN_API_KEY


def detect(image: npt.NDArray[np.uint8] | None, threshold: float) -> tuple[object, list[list[object]]]:
    """The drawn image, and a row for each object."""
    if image is None:
        return None, []
    found = client.detect(image, score_threshold=threshold)
    rows: list[list[object]] = [[one.name, round(one.score, 3)] for one in found]
    return found.draw(image), rows


def main() -> None:
    """Show the page."""
    import gradio

    def run(image: npt.NDArray[np.uint8] | None, threshold: float) -> tuple[object, list[list[object]]]:
        try:
            return detect(image, threshold)
        except ClientError as error:
            raise gradio.Error(str(error)) from error

    gradio.Interface(
        run,
        inputs=[gradio.Image(label="Image"), gradio.Slider(0, 1, 0.5, label="Minimum confidence")],
        outputs=[gradio.Image(label="Boxes"), gradio.Dataframe(headers=["name", "score"], label="Objects")],
        title="rcnn-serve",
        flagging_mode="never",
    ).launch(server_name="127.0.0.1", server_port=7860)


if __name__ == "__main__":
    main()
