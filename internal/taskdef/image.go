package taskdef

import "strings"

// ImageReference writes repo:tag@digest, leaving out the tag or the digest if
// it is empty. With a digest ECS runs exactly that image; the tag beside it is
// for people.
func ImageReference(repo, tag, digest string) string {
	if tag != "" {
		repo += ":" + tag
	}
	if digest != "" {
		repo += "@" + digest
	}
	return repo
}

// Repository is an image reference without its tag and digest.
func Repository(image string) string {
	image, _, _ = strings.Cut(image, "@")
	if colon := strings.LastIndexByte(image, ':'); colon > strings.LastIndexByte(image, '/') {
		image = image[:colon]
	}
	return image
}
