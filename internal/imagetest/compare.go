package imagetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// CompareOptions says what two images may differ in.
type CompareOptions struct {
	// Since is when the earlier of the two builds began. A modification time at
	// or after it is the time at which a RUN wrote the file: two of these count
	// as equal. Default: every modification time counts.
	Since time.Time
	// AnyContent says of which files, by their path below the root, size and
	// content may differ. Default: of none.
	AnyContent func(path string) bool
}

// Difference is one thing in which an image is not as wanted.
type Difference struct {
	// Where is "config", "history 3", "layers", or "file etc/passwd".
	Where string
	// Got and Want are the two values, or "(none)".
	Got, Want string
}

// String gives the difference on one line.
func (d Difference) String() string {
	return fmt.Sprintf("%s: got %s, want %s", d.Where, d.Got, d.Want)
}

const none = "(none)"

// Compare tells in what image got is not as image want: config and history
// aside from times, the number of layers, and the root filesystem that the
// layers make, file by file with kind, mode, owner, size, content, link target,
// hard links, extended attributes, device numbers and modification time. How a
// layer is compressed, and what its digest is, makes no difference.
func Compare(got, want v1.Image, opts CompareOptions) ([]Difference, error) {
	configs, err := compareConfigs(got, want)
	if err != nil {
		return nil, err
	}
	gotTree, err := Flatten(got)
	if err != nil {
		return nil, err
	}
	wantTree, err := Flatten(want)
	if err != nil {
		return nil, err
	}
	return append(configs, compareTrees(gotTree, wantTree, opts)...), nil
}

func compareConfigs(got, want v1.Image) ([]Difference, error) {
	gotDoc, gotHistory, gotLayers, err := parts(got)
	if err != nil {
		return nil, err
	}
	wantDoc, wantHistory, wantLayers, err := parts(want)
	if err != nil {
		return nil, err
	}
	diffs := compareMaps("config", gotDoc, wantDoc)
	if gotLayers != wantLayers {
		diffs = append(diffs, Difference{"layers", fmt.Sprint(gotLayers), fmt.Sprint(wantLayers)})
	}
	for i := range max(len(gotHistory), len(wantHistory)) {
		g, w := none, none
		if i < len(gotHistory) {
			g = gotHistory[i]
		}
		if i < len(wantHistory) {
			w = wantHistory[i]
		}
		if g != w {
			diffs = append(diffs, Difference{fmt.Sprintf("history %d", i), g, w})
		}
	}
	return diffs, nil
}

// parts reads an image's config: the document without times, diff IDs and
// history, each with its dotted path; the history's lines; the layers' number.
func parts(img v1.Image) (doc map[string]string, history []string, layers int, err error) {
	raw, err := img.RawConfigFile()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("image config: %w", err)
	}
	var config map[string]any
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if decodeErr := dec.Decode(&config); decodeErr != nil {
		return nil, nil, 0, fmt.Errorf("image config: %w", decodeErr)
	}
	entries, _ := config["history"].([]any)
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		delete(entry, "created")
		history = append(history, encode(entry))
	}
	rootfs, _ := config["rootfs"].(map[string]any)
	diffIDs, _ := rootfs["diff_ids"].([]any)
	all, err := img.Layers()
	if err != nil {
		return nil, nil, 0, fmt.Errorf("image layers: %w", err)
	}
	if len(diffIDs) != len(all) {
		return nil, nil, 0, fmt.Errorf("image config: %d diff IDs for %d layers", len(diffIDs), len(all))
	}
	delete(rootfs, "diff_ids")
	delete(config, "history")
	delete(config, "created")
	doc = map[string]string{}
	spread(doc, "", config)
	return doc, history, len(all), nil
}

// spread puts the leaves of value into doc under their dotted paths. Lists are leaves:
// their order counts.
func spread(doc map[string]string, path string, value any) {
	object, ok := value.(map[string]any)
	if !ok || len(object) == 0 {
		doc[path] = encode(value)
		return
	}
	for key, v := range object {
		spread(doc, strings.TrimPrefix(path+"."+key, "."), v)
	}
}

func encode(value any) string {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	// Decoded JSON always encodes.
	_ = enc.Encode(value)
	return strings.TrimSpace(buf.String())
}

// compareMaps compares two maps key by key, in the keys' order.
func compareMaps(where string, got, want map[string]string) []Difference {
	keys := maps.Clone(got)
	maps.Copy(keys, want)
	var diffs []Difference
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		g, gotOK := got[key]
		w, wantOK := want[key]
		if !gotOK {
			g = none
		}
		if !wantOK {
			w = none
		}
		if g != w {
			diffs = append(diffs, Difference{where + " " + key, g, w})
		}
	}
	return diffs
}
