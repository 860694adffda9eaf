"""The suffixes of image files, in lower case, by which folders are searched; a file is what its bytes say."""

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".avif", ".avifs", ".heic", ".heif", ".hif", ".jxl"}
)
# Of cameras' raw files. A dataset is not searched for them: they lie beside a JPEG of the same name.
RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".orf", ".rw2", ".raf", ".pef"}
    | {".srw", ".rwl", ".x3f", ".mrw", ".3fr", ".erf", ".kdc", ".dcr", ".iiq"}
)
