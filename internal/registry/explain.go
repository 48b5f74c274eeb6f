package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"syscall"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/towline/towline/internal/problem"
)

// explain makes of a failure at repo what a user can act upon.
func explain(err error, op string, repo name.Repository) error {
	var known *problem.Error
	if err == nil || errors.As(err, &known) || errors.Is(err, context.Canceled) {
		return err
	}
	p := &problem.Error{Op: op, Err: err}
	pulling := strings.HasPrefix(op, "pull")
	if !pulling {
		p.Op += " to " + displayName(repo)
	}
	account, region, isECR := ECRHost(repo.RegistryStr())

	var missing *missingPlatformError
	var answer *transport.Error
	switch {
	case errors.As(err, &missing):
		p.Fix = "Choose a base image that has the platform, or set platforms to one that it has."
	case !errors.As(err, &answer):
		p.Fix = fixBroken(err, pulling, isECR, repo, region)
	case hasCode(answer, transport.NameUnknownErrorCode):
		p.Fix = fixMissing(pulling, isECR, repo, region)
	case answer.StatusCode == http.StatusForbidden, hasCode(answer, transport.DeniedErrorCode):
		p.Fix = fixDenied(answer, pulling, isECR, repo, account, region)
	case answer.StatusCode == http.StatusUnauthorized:
		p.Fix = fixUnauthorized(pulling, isECR, repo)
	case hasCode(answer, transport.TagInvalidErrorCode) && strings.Contains(answer.Error(), "immutable"):
		p.Fix = fixImmutable
	case !pulling && (hasCode(answer, transport.BlobUnknownErrorCode) || hasCode(answer, transport.ManifestBlobUnknownErrorCode)):
		p.Fix = "What the image is made of was there a moment ago, and somebody else (a lifecycle policy?) has deleted it: run the job again."
	case answer.StatusCode == http.StatusNotFound && pulling:
		p.Fix = "Check the image's name and tag."
	case answer.StatusCode == http.StatusNotFound:
		p.Fix = fixMissing(pulling, isECR, repo, region)
	case answer.StatusCode == http.StatusTooManyRequests && pulling && repo.RegistryStr() == publicHost:
		p.Fix = "Set registry-type: public, so that the image is pulled with a login, or pull through a mirror with registry-mirrors."
	case answer.StatusCode == http.StatusTooManyRequests && pulling:
		p.Fix = "Log in with registry-credentials, or pull through a mirror with registry-mirrors."
	case answer.StatusCode == http.StatusTooManyRequests:
		p.Fix = "Run fewer pushes at once, or ask for a higher quota."
	case answer.StatusCode >= http.StatusInternalServerError:
		p.Fix = "The registry has trouble of its own: run the job again later."
	}
	if !pulling {
		setPushInput(p, answer, isECR)
	}
	return p
}

// setPushInput names the input that a failed push is about.
func setPushInput(p *problem.Error, answer *transport.Error, isECR bool) {
	if answer != nil && answer.StatusCode >= http.StatusInternalServerError {
		return
	}
	p.Input = "tags"
	if isECR && answer != nil && hasCode(answer, transport.NameUnknownErrorCode) {
		p.Input = "repository"
	}
}

func hasCode(answer *transport.Error, code transport.ErrorCode) bool {
	return slices.ContainsFunc(answer.Errors, func(d transport.Diagnostic) bool { return d.Code == code })
}

// isImmutable says whether the registry refused to move a tag: ECR answers
// TAG_INVALID; others say it in words.
func isImmutable(err error) bool {
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return false
	}
	return hasCode(answer, transport.TagInvalidErrorCode) || strings.Contains(strings.ToLower(answer.Error()), "immutable")
}

// fixBroken is for a connection that ended without an answer. ECR closes it on
// an upload into a repository that is missing or closed to the caller.
func fixBroken(err error, pulling, isECR bool, repo name.Repository, region string) string {
	request, ok := errors.AsType[*url.Error](err)
	if ok && isClosed(err) && request.Op == "Post" && !pulling && isECR {
		return fmt.Sprintf("ECR ends an upload like this when the repository is missing or ecr:InitiateLayerUpload is denied. "+
			"Create it (%s), or allow the action.", createCommand(repo.RepositoryStr(), Place{Region: region}, ""))
	}
	if strings.Contains(err.Error(), "no such host") {
		return fmt.Sprintf("Check the registry's name, %s.", repo.RegistryStr())
	}
	if isClosed(err) && pulling {
		return "The connection broke each time it was tried: run the job again. If it keeps on, look for a proxy or a firewall on the way to " + repo.RegistryStr() + "."
	}
	if isClosed(err) {
		return "The connection broke each time it was tried: run the job again, and what has arrived is not sent anew. If it keeps on, look for a proxy or a firewall on the way to " + repo.RegistryStr() + " that limits uploads."
	}
	return fixTLS(err, repo.RegistryStr())
}

// fixTLS is for a registry whose identity nobody vouches for. Go takes the file of
// SSL_CERT_FILE in place of its own list, not beside it.
func fixTLS(err error, host string) string {
	if _, unknown := errors.AsType[x509.UnknownAuthorityError](err); unknown {
		return "Put the certificate of the authority that signed " + host + "'s into a file of the workspace, after the public ones " +
			"(cat /etc/ssl/certs/ca-certificates.crt ca.pem > certs.pem), and set in the step's env: SSL_CERT_FILE: /github/workspace/certs.pem"
	}
	if _, invalid := errors.AsType[*tls.CertificateVerificationError](err); invalid {
		return "Have the certificate of " + host + " renewed, for that name."
	}
	if strings.Contains(err.Error(), "server gave HTTP response to HTTPS client") {
		return "Put " + host + " behind HTTPS: without it only registries of this machine (localhost) are talked to."
	}
	return ""
}

// isClosed says whether a connection ended before its answer.
func isClosed(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET)
}

func fixMissing(pulling, isECR bool, repo name.Repository, region string) string {
	switch {
	case pulling && isECR:
		return "Check the image's name. For a pull-through cache allow " +
			"ecr:BatchImportUpstreamImage and ecr:CreateRepository to the role, which the first pull of an image needs, and check the rule's prefix."
	case pulling:
		return "Check the image's name."
	case isECR:
		return "Create the repository: " + createCommand(repo.RepositoryStr(), Place{Region: region}, "")
	}
	return "Create the repository, or check its name."
}

func fixUnauthorized(pulling, isECR bool, repo name.Repository) string {
	switch {
	case isECR:
		return "Set role-to-assume and aws-region, so that Towline can log in to ECR."
	case pulling && repo.RegistryStr() == name.DefaultRegistry:
		return "Check the image's name: Docker Hub answers like this for one that does not exist. For a private one set registry-credentials: docker.io=USER:TOKEN"
	}
	return fixLogin(pulling, repo, "Set registry-credentials: %s=USER:PASSWORD; if it is set, check both: the registry does not know that login.")
}

// fixLogin adds what GitHub's own registry needs to fix, which names the host.
func fixLogin(pulling bool, repo name.Repository, fix string) string {
	host := repo.RegistryStr()
	if host == name.DefaultRegistry {
		host = "docker.io"
	}
	if host != "ghcr.io" && !strings.HasPrefix(host, "containers.") {
		return fmt.Sprintf(fix, host)
	}
	access := "write"
	if pulling {
		access = "read"
	}
	return fmt.Sprintf("Give the job permissions: packages: %s, and the repository access to the package (in the package's settings). For another login: "+
		"registry-credentials: %s=USER:TOKEN", access, host)
}

// fixDenied names the IAM action that a refused request needs; see
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html.
func fixDenied(answer *transport.Error, pulling, isECR bool, repo name.Repository, account, region string) string {
	if !isECR {
		if pulling {
			return fixLogin(pulling, repo, "Set registry-credentials for %s to a login that may read the repository.")
		}
		return fixLogin(pulling, repo, "Set registry-credentials for %s to a login that may write to the repository.")
	}
	action := ecrAction(answer.Request)
	text := answer.Error()
	switch {
	case strings.Contains(text, "upstream registry failed"):
		return "Check the secret of the pull-through cache's rule in AWS Secrets Manager: the registry behind it refuses that login. An official image of Docker Hub is below library/."
	case pulling && strings.Contains(text, "ecr:BatchImportUpstreamImage"), pulling && strings.Contains(text, "ecr:CreateRepository"):
		return fixActions([]string{"ecr:BatchImportUpstreamImage", "ecr:CreateRepository"}, text, repo, account, region) +
			" The first pull through a cache fetches the image and creates its repository."
	}
	fix := fixActions([]string{action}, text, repo, account, region)
	if action == "ecr:PutImage" && !strings.Contains(text, "not authorized to perform") {
		fix += " ECR answers the same when the repository has reached its quota of images: then delete old ones (a lifecycle policy does), or ask for a higher quota."
	}
	return fix
}

// fixActions says which IAM actions a role lacks on a repository of ECR, and where
// to allow them, as far as the refusal tells.
func fixActions(actions []string, refusal string, repo name.Repository, account, region string) string {
	if strings.Contains(refusal, "no resource-based policy") {
		return fmt.Sprintf("Let the repository's own policy, in account %s, allow the role %s.", account, strings.Join(actions, ", "))
	}
	return fmt.Sprintf("Allow %s on arn:%s:ecr:%s:%s:repository/%s to the role, and in the repository's policy if it is another account's.",
		strings.Join(actions, ", "), partition(region), region, account, repo.RepositoryStr())
}

// ecrAction is the IAM action behind a request of the registry protocol.
func ecrAction(req *http.Request) string {
	if req == nil {
		return "ecr:BatchGetImage"
	}
	path := req.URL.Path
	switch {
	case strings.HasSuffix(path, "/tags/list"):
		return "ecr:ListImages"
	case strings.Contains(path, "/manifests/") && req.Method == http.MethodPut:
		return "ecr:PutImage"
	case strings.Contains(path, "/blobs/uploads/") && req.Method == http.MethodPost:
		return "ecr:InitiateLayerUpload"
	case strings.Contains(path, "/blobs/uploads/") && req.Method == http.MethodPatch, req.Method == http.MethodPatch:
		return "ecr:UploadLayerPart"
	case req.Method == http.MethodPut:
		return "ecr:CompleteLayerUpload"
	case strings.Contains(path, "/blobs/") && req.Method == http.MethodHead:
		return "ecr:BatchCheckLayerAvailability"
	case strings.Contains(path, "/blobs/"):
		return "ecr:GetDownloadUrlForLayer"
	}
	return "ecr:BatchGetImage"
}

// partition is the part of AWS that region belongs to, for an ARN.
func partition(region string) string {
	for prefix, partition := range map[string]string{
		"cn-": "aws-cn", "us-gov-": "aws-us-gov", "eusc-": "aws-eusc",
		"us-iso-": "aws-iso", "us-isob-": "aws-iso-b", "eu-isoe-": "aws-iso-e", "us-isof-": "aws-iso-f",
	} {
		if strings.HasPrefix(region, prefix) {
			return partition
		}
	}
	return "aws"
}
