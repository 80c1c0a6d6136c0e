// Package content keeps blobs by the digest of their bytes (image-spec, image-layout.md): blobs/sha256/<hex>. A blob is
// written beside, under ingest/, and gets its name when all of it is there and its digest is right; so a blob that has
// a name is whole, also after a power cut. A writer that knows the digest before, as a pull does, writes to ingest/<hex>,
// alone, and one that comes later goes on with what it left (resume.go).
package content
