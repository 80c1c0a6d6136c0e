// Package reference reads the names of images as Docker does: "alpine" is docker.io/library/alpine:latest, the first
// part is a registry when it has a dot or a port or is localhost, and a digest says exactly which content is meant
// (distribution/reference, grammar).
package reference
