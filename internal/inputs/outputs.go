package inputs

import (
	"encoding/csv"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Export is a line of "outputs" that writes into the workspace.
type Export struct {
	// Type is oci, docker, tar or local.
	Type string
	// Dest is absolute if Settings.Workspace is.
	Dest string
	// Folder makes an OCI layout a folder.
	Folder bool
	// Names are references; empty: those of the tags.
	Names []string
	// Manifests holds the annotations of this line, and after them those of "annotations".
	Manifests Manifests
}

// Manifests says how manifests are written.
type Manifests struct {
	// DockerTypes writes Docker's media types instead of OCI's.
	DockerTypes bool
	Annotations []Annotation
}

// Annotation is one annotation in one place.
type Annotation struct {
	// Place is manifest, index, manifest-descriptor or index-descriptor.
	Place string
	// Platform is os/arch[/variant], or empty for all.
	Platform   string
	Key, Value string
}

// imageOutput is the line of "outputs" about the image in the registry.
type imageOutput struct {
	given, byDigest bool
	push            *bool
	names           []string
	manifests       Manifests
	// compressions are those of all lines.
	compressions []Compression
}

const outputsForm = "Write lines of type=oci|docker|tar|local,dest=PATH or type=image,ATTRIBUTE=VALUE,...; quote an attribute that has a comma in it."

// outputs reads the lines of "outputs", each a line of CSV as in docker build.
func (p *parser) outputs(b *Build) imageOutput {
	var image imageOutput
	for _, entry := range p.list("outputs", false) {
		if err := p.outputLine(b, &image, entry.text); err != nil {
			p.fail("outputs", entry.text, outputsForm, fmt.Errorf("line %d: %w", entry.line, err))
		}
	}
	b.Manifests = image.manifests
	p.compression(b, image.compressions)
	return image
}

func (p *parser) outputLine(b *Build, image *imageOutput, line string) error {
	attributes, err := parseAttributes(line)
	if err != nil {
		return err
	}
	o := &outputAttributes{values: attributes, used: map[string]bool{}}
	switch kind := o.text("type"); kind {
	case "image", "registry":
		if image.given {
			return errors.New("the image has a line already")
		}
		compressions := image.compressions
		*image = o.image(kind)
		image.compressions = slices.Concat(compressions, []Compression{o.packed})
	case "oci", "docker", "tar", "local":
		export := o.export(kind)
		if export.Dest != "" {
			export.Dest = p.path(export.Dest)
		}
		if slices.ContainsFunc(b.Exports, func(other Export) bool { return other.Dest == export.Dest }) && len(o.problems) == 0 {
			o.problems = append(o.problems, fmt.Errorf("%s is another line's dest", export.Dest))
		}
		b.Exports = append(b.Exports, export)
		image.compressions = append(image.compressions, o.packed)
	case "":
		return errors.New("no type")
	default:
		return fmt.Errorf("%q is not a type", kind)
	}
	return errors.Join(append(o.problems, o.rest()...)...)
}

// parseAttributes reads a line of CSV with ATTRIBUTE=VALUE in each field.
func parseAttributes(line string) (map[string]string, error) {
	reader := csv.NewReader(strings.NewReader(line))
	reader.TrimLeadingSpace = true
	fields, err := reader.Read()
	if syntax, ok := errors.AsType[*csv.ParseError](err); ok {
		err = syntax.Err
	}
	if err != nil {
		return nil, err
	}
	if len(fields) == 1 && !strings.Contains(fields[0], "=") { // as with docker build: a folder
		fields = []string{"type=local", "dest=" + fields[0]}
	}
	attributes := map[string]string{}
	for _, field := range fields {
		key, value, found := strings.Cut(field, "=")
		if key = strings.ToLower(strings.TrimSpace(key)); !found || key == "" {
			return nil, fmt.Errorf("%q is not ATTRIBUTE=VALUE", field)
		}
		if strings.HasPrefix(key, "annotation") { // case counts in an annotation
			key = strings.TrimSpace(field[:strings.IndexByte(field, '=')])
		}
		if _, twice := attributes[key]; twice {
			return nil, fmt.Errorf("%s stands twice", key)
		}
		attributes[key] = strings.TrimSpace(value)
	}
	return attributes, nil
}

// outputAttributes are those of one line.
type outputAttributes struct {
	values   map[string]string
	used     map[string]bool
	problems []error
	packed   Compression
}

func (o *outputAttributes) text(key string) string {
	o.used[key] = true
	return o.values[key]
}

// flag is an attribute's value as docker build reads it; nil when it is not there.
func (o *outputAttributes) flag(key string) *bool {
	v := o.text(key)
	if v == "" {
		return nil
	}
	b, err := strconv.ParseBool(v)
	if err != nil {
		o.problems = append(o.problems, fmt.Errorf("%s=%s is neither true nor false", key, v))
	}
	return &b
}

func isTrue(flag *bool) bool { return flag != nil && *flag }

// rest are the attributes that nobody has asked for.
func (o *outputAttributes) rest() []error {
	var unknown []string
	for key := range o.values {
		if !o.used[key] {
			unknown = append(unknown, key)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return []error{fmt.Errorf("type=%s has no attribute %s", o.values["type"], strings.Join(unknown, ", "))}
}

func (o *outputAttributes) image(kind string) imageOutput {
	image := imageOutput{given: true, push: o.flag("push"), byDigest: isTrue(o.flag("push-by-digest")), manifests: o.manifests()}
	o.flag("name-canonical") // how docker build calls what is stored in an engine
	image.names = o.names()
	if kind == "registry" && image.push == nil {
		push := true
		image.push = &push
	}
	return image
}

func (o *outputAttributes) names() []string {
	return slices.DeleteFunc(strings.Split(o.text("name"), ","), func(name string) bool { return strings.TrimSpace(name) == "" })
}

func (o *outputAttributes) export(kind string) Export {
	e := Export{Type: kind, Dest: o.text("dest")}
	if e.Dest == "" {
		o.problems = append(o.problems, errors.New("no dest=PATH, and there is no Docker engine that could take it"))
	}
	if e.Dest == "-" {
		o.problems = append(o.problems, errors.New("dest=- is the log"))
	}
	if kind == "tar" || kind == "local" {
		return e
	}
	if folder := o.flag("tar"); folder != nil && !*folder {
		e.Folder = true
		if kind == "docker" {
			o.problems = append(o.problems, errors.New("tar=false is for type=oci"))
		}
	}
	e.Names, e.Manifests = o.names(), o.manifests()
	if kind == "docker" && len(e.Manifests.Annotations) > 0 {
		o.problems = append(o.problems, errors.New("what docker load reads has no annotations"))
	}
	return e
}

// manifests reads what docker build knows of an image's form.
func (o *outputAttributes) manifests() Manifests {
	var m Manifests
	if oci := o.flag("oci-mediatypes"); oci != nil {
		m.DockerTypes = !*oci
	}
	o.packed = o.compression()
	if isTrue(o.flag("force-compression")) {
		o.problems = append(o.problems, errors.New("force-compression=true: the layers of a base image stay as they are"))
	}
	o.flag("rewrite-timestamp") // new layers always keep to source-date-epoch
	for key, value := range o.values {
		if !strings.HasPrefix(key, "annotation") {
			continue
		}
		o.used[key] = true
		groups := submatches(`^annotation(?:-([a-z-]+))?(?:\[([A-Za-z0-9_/-]+)\])?\.(\S+)$`, key)
		if groups == nil {
			o.problems = append(o.problems, fmt.Errorf("%s is not annotation[-PLACE][[PLATFORM]].KEY", key))
			continue
		}
		a, err := annotation(groups[1], groups[2], groups[3], value)
		if err != nil {
			o.problems = append(o.problems, err)
			continue
		}
		m.Annotations = append(m.Annotations, a)
	}
	slices.SortFunc(m.Annotations, func(a, b Annotation) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	if m.DockerTypes && slices.ContainsFunc(m.Annotations, func(a Annotation) bool { return a.Place != "manifest" }) {
		o.problems = append(o.problems, errors.New("oci-mediatypes=false has room for annotations of manifests only"))
	}
	return m
}

// annotation checks one annotation.
func annotation(place, platform, key, value string) (Annotation, error) {
	if place == "" {
		place = "manifest"
	}
	if !slices.Contains([]string{"manifest", "index", "manifest-descriptor", "index-descriptor"}, place) {
		return Annotation{}, fmt.Errorf("%q is not a place for annotations", place)
	}
	if key = strings.TrimSpace(key); key == "" || strings.ContainsAny(key, " \t") {
		return Annotation{}, fmt.Errorf("%q is not the key of an annotation", key)
	}
	if platform != "" {
		name, known := parsePlatform(platform)
		if !known {
			return Annotation{}, fmt.Errorf("%q is not a platform", platform)
		}
		if strings.HasPrefix(place, "index") {
			return Annotation{}, fmt.Errorf("%s[%s]: an index is for all platforms", place, platform)
		}
		platform = name
	}
	return Annotation{Place: place, Platform: platform, Key: key, Value: value}, nil
}

// annotations reads "annotations", which go to the registry and to every export
// that has room for them.
func (p *parser) annotations(b *Build) {
	var all []Annotation
	p.pairs("annotations", false, "[PLACE:]KEY=value", func(key, value string, found bool) error {
		if !found {
			return fmt.Errorf("%q has no value", key)
		}
		places, name, placed := strings.Cut(key, ":")
		if !placed {
			places, name = "", key
		}
		for place := range strings.SplitSeq(places, ",") {
			groups := submatches(`^([a-z-]*)(?:\[([A-Za-z0-9_/-]+)\])?$`, place)
			if groups == nil {
				return fmt.Errorf("%q is not a place for annotations", place)
			}
			a, err := annotation(groups[1], groups[2], name, value)
			if err != nil {
				return err
			}
			all = append(all, a)
		}
		return nil
	})
	b.Annotations = all
	b.Manifests.Annotations = append(b.Manifests.Annotations, all...)
	for i, e := range b.Exports {
		if e.Type == "oci" {
			b.Exports[i].Manifests.Annotations = slices.Concat(e.Manifests.Annotations, all)
		}
	}
}
