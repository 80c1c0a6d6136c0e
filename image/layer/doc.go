// Package layer turns layers into trees of files and trees into layers (image-spec, layer.md).
//
// A layer is a tar archive of what it adds and changes; what it removes is a whiteout, a file named .wh.NAME. In a tree
// whiteouts are what overlayfs has for them: a character device 0:0, and the attribute trusted.overlay.opaque of a
// folder whose lower content is hidden. So a layer's tree is a lower folder of an overlay as it is, and needs no other
// layer to be made.
//
// An archive comes from anywhere. Every path of it is looked up below the tree by openat2(2), so that "..", absolute
// names and links, also links that the archive itself made before, end inside.
package layer
