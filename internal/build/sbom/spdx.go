package sbom

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// PredicateType is what an in-toto statement calls an SPDX document.
const PredicateType = "https://spdx.dev/Document"

// noAssertion says that nothing is said (SPDX 2.3, clause 7).
const noAssertion = "NOASSERTION"

type document struct {
	Version       string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	Comment       string         `json:"comment,omitempty"`
	Creation      creation       `json:"creationInfo"`
	Packages      []spdxPackage  `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type spdxPackage struct {
	ID       string         `json:"SPDXID"`
	Name     string         `json:"name"`
	Version  string         `json:"versionInfo,omitempty"`
	Purpose  string         `json:"primaryPackagePurpose,omitempty"`
	Download string         `json:"downloadLocation"`
	Analyzed bool           `json:"filesAnalyzed"`
	Source   string         `json:"sourceInfo,omitempty"`
	Declared string         `json:"licenseDeclared"`
	Comment  string         `json:"licenseComments,omitempty"`
	Refs     []externalRefs `json:"externalRefs,omitempty"`
}

type externalRefs struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

// SPDX is the inventory as an SPDX 2.3 document in JSON. image identifies what
// was looked at, such as the digest of its configuration; created is the time
// that the document carries, to the second.
func (v *Inventory) SPDX(image string, created time.Time) ([]byte, error) {
	const docID, imageID = "SPDXRef-DOCUMENT", "SPDXRef-image"
	d := document{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: docID, Name: image,
		Creation: creation{Created: created.UTC().Format("2006-01-02T15:04:05Z"), Creators: []string{"Tool: towline"}},
		Packages: []spdxPackage{{ID: imageID, Name: image, Purpose: "CONTAINER", Download: noAssertion, Declared: noAssertion}},
		Relationships: []relationship{
			{From: docID, Type: "DESCRIBES", To: imageID},
		},
	}
	if len(v.Unread) > 0 {
		d.Comment = "Not read, so what it lists is missing here: " + strings.Join(v.Unread, ", ")
	}
	for _, p := range v.Packages {
		purl := p.PURL(v.Distro, v.Version)
		sum := sha256.Sum256([]byte(purl + "\x00" + p.License))
		entry := spdxPackage{
			ID: "SPDXRef-" + p.Kind + "-" + hex.EncodeToString(sum[:8]), Name: p.Name, Version: p.Version, Download: noAssertion,
			Source: "read from /" + p.Path, Declared: noAssertion,
			Refs: []externalRefs{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: purl}},
		}
		if p.License != "" { // it need not be an SPDX expression
			entry.Comment = "The package says: " + p.License
		}
		d.Packages = append(d.Packages, entry)
		d.Relationships = append(d.Relationships, relationship{From: imageID, Type: "CONTAINS", To: entry.ID})
	}
	content, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("SPDX document: %w", err)
	}
	sum := sha256.Sum256(content)
	d.Namespace = "https://github.com/towline/towline/spdx/" + hex.EncodeToString(sum[:])
	if content, err = json.Marshal(d); err != nil {
		return nil, fmt.Errorf("SPDX document: %w", err)
	}
	return content, nil
}
