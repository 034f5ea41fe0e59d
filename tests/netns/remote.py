"""Run on a machine of the network: a folder into the bucket, or the bucket into a folder."""

import sys

import s3fs

BUCKET = "carboncube"


def main(what: str, folder: str) -> None:
    fs = s3fs.S3FileSystem(use_listings_cache=False)
    if what == "put":
        fs.mkdir(BUCKET)
        fs.put(f"{folder}/", f"{BUCKET}/store/", recursive=True)
    else:
        fs.get(f"{BUCKET}/store/", f"{folder}/", recursive=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
