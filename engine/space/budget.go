//go:build linux

package space

import (
	"errors"
	"io/fs"
	"path/filepath"
	"slices"

	"github.com/berth-containers/berth/engine"
	"github.com/berth-containers/berth/image"
	"github.com/berth-containers/berth/internal/atomicfile"
	"github.com/berth-containers/berth/internal/errs"
)

// budget is budget.json in the data root.
type budget struct {
	Images int64 // bytes; 0 is no bound
}

func budgetFile(e *engine.Engine) string { return filepath.Join(e.Root(), "budget.json") }

// Budget is how many bytes images may take; 0 is any number.
func Budget(e *engine.Engine) (int64, error) {
	var b budget
	err := atomicfile.ReadJSON(budgetFile(e), &b)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return b.Images, errs.Wrap("read budget", err)
}

// SetBudget bounds what images may take; 0 takes the bound away.
func SetBudget(e *engine.Engine, bytes int64) error {
	return errs.Wrap("keep budget", atomicfile.WriteJSON(budgetFile(e), budget{bytes}, atomicfile.Durable))
}

// Kept is what was done to keep a budget.
type Kept struct {
	Budget, Size int64    // bytes; Size is what images take now
	Removed      []string // names or ids of images
}

// Over reports whether more is taken than the budget allows.
func (k *Kept) Over() bool { return k.Budget > 0 && k.Size > k.Budget }

// Keep removes images until the others are within the budget: those that were not used for the longest time first, and
// only those that nobody misses, because they have no name any more, or come from a registry, which has them still. Those
// that a container has or that are mounted stay. It costs next to nothing when there is no budget.
func Keep(e *engine.Engine) (*Kept, error) {
	k := &Kept{}
	var err error
	if k.Budget, err = Budget(e); err != nil || k.Budget == 0 {
		return k, err
	}
	list, err := e.ImageStore().List()
	if err != nil {
		return nil, err
	}
	of, _, err := users(e)
	if err != nil {
		return nil, err
	}
	store := e.ImageStore()
	slices.SortFunc(list, func(a, b *image.Image) int { return store.LastUsed(a).Compare(store.LastUsed(b)) })
	for i := 0; i < len(list)-1; { // the last one is what somebody wants just now
		if k.Size = total(list); !k.Over() {
			return k, nil
		}
		img := list[i]
		if of[img.ID] > 0 || len(img.Names) > 0 && len(img.Digests) == 0 {
			i++
			continue
		}
		if _, err := e.DropImage(img.ID); err != nil {
			if errs.Is(err, errs.Conflict) || errs.Is(err, errs.NotFound) { // somebody has come to use or remove it
				i++
				continue
			}
			return k, err
		}
		k.Removed = append(k.Removed, append(slices.Clone(img.Names), img.ID)[0])
		list = slices.Delete(list, i, i+1)
	}
	k.Size = total(list)
	return k, nil
}

// Images is what images take together, as a budget counts it.
func Images(e *engine.Engine) int64 {
	list, err := e.ImageStore().List()
	if err != nil {
		return 0
	}
	return total(list)
}

// total is what images take together: the files of their layers and their blobs, by what is written down of them.
func total(list []*image.Image) (bytes int64) {
	seen := map[string]bool{}
	for _, img := range list {
		for _, l := range img.Layers {
			if !seen[string(l.DiffID)] {
				seen[string(l.DiffID)] = true
				bytes += l.Size
			}
			if !seen[string(l.Blob)] {
				seen[string(l.Blob)] = true
				bytes += l.Length
			}
		}
	}
	return bytes
}
