// Package image is the store of images: what is pulled, imported, loaded and committed, shared by any number of
// processes.
//
//	blobs/sha256/<hex>            manifests, configurations, layers as they came              content/
//	layers/<hex of diff id>/fs    each layer unpacked, a lower folder of an overlay           layer/
//	images/<hex>.json             what a start needs of an image, in one small file
//	refs/<registry>/<path>/_tags/<tag> → sha256:<hex>           names: a link whose text is the image's id
//	refs/<registry>/<path>/_digests/<hex> → sha256:<hex>        the same for the digest it was pulled by
//
// Nothing lists anything on the way to a start: a name is one readlink(2), an image one read. A layer's tree needs no
// other layer, so it is kept by its own digest (diff id), once, whatever images have it, and layers are unpacked in any
// order. A tree, a blob, a name appear by one rename when they are whole; readers take no lock. What nothing refers to
// is found by walking (gc.go).
package image
