// What a person can do about a problem, by the code of it; what went wrong the server says itself.

const ADVICE = {
  unreachable: "Check that the server runs and that this address reaches it, then try again.",
  body_too_large: "Choose a smaller file, or ask the operator to raise RCNN_MAX_BODY_BYTES.",
  image_too_large: "Choose a smaller picture, or ask the operator to raise RCNN_MAX_PIXELS.",
  invalid_image: "Check that the file is whole and opens in an image viewer, or save it as JPEG or PNG.",
  unsupported_media_type: "Save it as JPEG, PNG or WebP, and choose it again.",
  invalid_parameter: "Set the option back under More options.",
  loading: "Nothing to do: the picture is sent again when the model is ready.",
  overloaded: "Nothing to do: the picture is sent again in a moment.",
  failing: "Restart the server; its log says why the model failed.",
  draining: "The server is shutting down. Try again when it has started anew.",
  deadline_exceeded: "Try again, choose a smaller input size, or switch tiles off.",
  internal: "Try again. If it happens again, the server's log has the details.",
  unknown_model: "Choose a model that is loaded.",
  forbidden: "Use a key of RCNN_ADMIN_KEYS.",
  unauthorized: "Enter a key that this server knows.",
  no_frames: "Check that the file plays elsewhere, or convert it to MP4 (H.264).",
};

export const adviceFor = ({ code }) => ADVICE[code] ?? "";
