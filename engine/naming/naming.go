//go:build linux

// Package naming invents names for containers: two words, a quality and something that lies in a harbour.
package naming

import (
	"crypto/rand"
	"math/big"
)

var qualities = [...]string{
	"able", "agile", "amber", "bold", "brave", "bright", "brisk", "calm", "clear", "clever", "cosy", "crisp", "deft", "eager", "fair", "fleet",
	"fresh", "gentle", "glad", "golden", "grand", "hardy", "honest", "keen", "kind", "lively", "loyal", "lucky", "mellow", "merry", "mighty", "neat",
	"nimble", "noble", "patient", "placid", "plucky", "polite", "proud", "quick", "quiet", "ready", "robust", "serene", "sharp", "silver", "sleek", "smooth",
	"snug", "solid", "spry", "steady", "stout", "sunny", "swift", "tidy", "trusty", "vivid", "warm", "wary", "wise", "witty", "young", "zesty",
}

var things = [...]string{
	"anchor", "barge", "beacon", "bollard", "bow", "brig", "buoy", "cabin", "canal", "canvas", "cargo", "clipper", "coaster", "compass", "cove", "crane",
	"cutter", "deck", "dinghy", "dock", "dory", "ferry", "fjord", "frigate", "galley", "gangway", "gull", "harbour", "hatch", "haven", "helm", "hull",
	"islet", "jetty", "keel", "ketch", "lagoon", "lantern", "launch", "lighter", "lock", "mast", "mooring", "oar", "pier", "pilot", "pontoon", "port",
	"quay", "raft", "reef", "rigging", "rudder", "sail", "schooner", "sextant", "skiff", "sloop", "spar", "tide", "trawler", "tug", "wharf", "yawl",
}

// Invent joins two words.
func Invent() string { return pick(qualities[:]) + "_" + pick(things[:]) }

func pick(words []string) string {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(len(words))))
	if err != nil {
		return words[0]
	}
	return words[n.Int64()]
}
