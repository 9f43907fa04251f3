// Readlog reads a log's folder with Go's own libraries for notes and trees: golang.org/x/mod/sumdb/note and tlog.
//
//	readlog FOLDER VKEY
//
// It opens the checkpoint, takes every entry from the entry bundles, proves that it is in the tree, and that the tree begins with the
// trees of earlier sizes. Tiles are only read through tlog.TileHashReader, which checks each against the checkpoint's root. Prints a JSON
// object; exits with 1 when anything does not hold.
package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const (
	height   = 8
	width    = 1 << height
	maxBytes = 32 << 20
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: readlog FOLDER VKEY")
		os.Exit(2)
	}
	report, err := read(os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	json.NewEncoder(os.Stdout).Encode(report)
}

type report struct {
	Origin string `json:"origin"`
	Size   int64  `json:"size"`
	Root   string `json:"root"`
	// Entries whose inclusion was proved.
	Included int64 `json:"included"`
	// Earlier sizes whose trees the tree begins with.
	Consistent []int64 `json:"consistent"`
}

func read(folder, vkey string) (*report, error) {
	tree, origin, err := open(folder, vkey)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	report := &report{Origin: origin, Size: tree.N, Root: tree.Hash.String(), Consistent: []int64{}}
	hashes := tlog.TileHashReader(tree, tiles{folder, tree.N})
	for index := int64(0); index < tree.N; index++ {
		entry, err := entry(folder, index, tree.N)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		proof, err := tlog.ProveRecord(tree.N, index, hashes)
		if err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		if err := tlog.CheckRecord(proof, tree.N, tree.Hash, index, tlog.RecordHash(entry)); err != nil {
			return nil, fmt.Errorf("entry %d: %w", index, err)
		}
		report.Included++
	}
	for _, size := range earlier(tree.N) {
		root, err := tlog.TreeHash(size, hashes)
		if err != nil {
			return nil, fmt.Errorf("size %d: %w", size, err)
		}
		proof, err := tlog.ProveTree(tree.N, size, hashes)
		if err != nil {
			return nil, fmt.Errorf("size %d: %w", size, err)
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, size, root); err != nil {
			return nil, fmt.Errorf("size %d: %w", size, err)
		}
		report.Consistent = append(report.Consistent, size)
	}
	return report, nil
}

func open(folder, vkey string) (tlog.Tree, string, error) {
	verifier, err := note.NewVerifier(vkey)
	if err != nil {
		return tlog.Tree{}, "", err
	}
	text, err := bounded(filepath.Join(folder, "checkpoint"))
	if err != nil {
		return tlog.Tree{}, "", err
	}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, "", err
	}
	// Three lines: origin, size, root.
	var origin, root string
	var size int64
	if count, err := fmt.Sscanf(opened.Text, "%s\n%d\n%s\n", &origin, &size, &root); err != nil || count != 3 {
		return tlog.Tree{}, "", fmt.Errorf("want origin, size and root: %w", err)
	}
	hash, err := tlog.ParseHash(root)
	if err != nil {
		return tlog.Tree{}, "", err
	}
	if origin != verifier.Name() {
		return tlog.Tree{}, "", fmt.Errorf("it is of the log %s", origin)
	}
	return tlog.Tree{N: size, Hash: hash}, origin, nil
}

// tiles reads tiles under C2SP's paths.
type tiles struct {
	folder string
	size   int64
}

func (tiles) Height() int { return height }

func (tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func (t tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	var found [][]byte
	for _, tile := range wanted {
		path := filepath.Join(t.folder, "tile", fmt.Sprint(tile.L), number(tile.N))
		// Go may ask for less of a tile than the tree has of it.
		has := min(t.size>>(height*tile.L)-tile.N*width, width)
		data, err := partial(path, has)
		if err != nil {
			return nil, err
		}
		if len(data) != int(has)*tlog.HashSize {
			return nil, fmt.Errorf("%s has %d bytes", path, len(data))
		}
		found = append(found, data[:tile.W*tlog.HashSize])
	}
	return found, nil
}

func entry(folder string, index, size int64) ([]byte, error) {
	bundle := index / width
	data, err := partial(filepath.Join(folder, "tile", "entries", number(bundle)), min(size-bundle*width, width))
	if err != nil {
		return nil, err
	}
	for skip := index % width; ; skip-- {
		if len(data) < 2 || len(data)-2 < int(binary.BigEndian.Uint16(data)) {
			return nil, fmt.Errorf("the bundle is cut")
		}
		length := int(binary.BigEndian.Uint16(data))
		if skip == 0 {
			return data[2 : 2+length], nil
		}
		data = data[2+length:]
	}
}

// partial reads a tile or bundle of this width; a full one has no width in its name.
func partial(path string, has int64) ([]byte, error) {
	if has < width {
		path = fmt.Sprintf("%s.p/%d", path, has)
	}
	return bounded(path)
}

func bounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() > maxBytes {
		return nil, fmt.Errorf("%s is too large", path)
	}
	return os.ReadFile(path)
}

// number is 1234067 as x001/x234/067.
func number(n int64) string {
	path := fmt.Sprintf("%03d", n%1000)
	for n /= 1000; n > 0; n /= 1000 {
		path = fmt.Sprintf("x%03d/%s", n%1000, path)
	}
	return path
}

// earlier gives sizes around the bounds of tiles and subtrees.
func earlier(size int64) []int64 {
	var sizes []int64
	for _, candidate := range []int64{1, 2, 3, 7, 128, 255, 256, 257, 511, 512, size / 2, size - 1} {
		if candidate > 0 && candidate < size {
			sizes = append(sizes, candidate)
		}
	}
	return sizes
}
