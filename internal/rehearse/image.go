package rehearse

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/towline/towline/internal/emulator"
	"github.com/towline/towline/internal/inputs"
)

// addImages puts an empty image where the input image says that one is, if that is
// the account's ECR and no earlier step has pushed it. One that is named by its
// digest cannot be made, and need not be: it is not looked for.
func (in *stepInputs) addImages(cloud *emulator.Cloud, account, region string) error {
	for line := range strings.Lines(in.get("image")) {
		image := strings.TrimSpace(line)
		if _, named, found := strings.Cut(image, "="); found {
			image = named
		}
		host, _, _ := strings.Cut(image, "/")
		if inputs.ECRRegion(host) == "" || !strings.HasPrefix(host, account) || strings.Contains(image, "@") {
			continue
		}
		tag, err := name.NewTag(image)
		if err != nil {
			continue // the step says what is wrong with the input
		}
		if err := addImage(cloud, region, tag); err != nil {
			return fmt.Errorf("image %s: %w", image, err)
		}
	}
	return nil
}

func addImage(cloud *emulator.Cloud, region string, tag name.Tag) error {
	const key, secret = "AKIAREHEARSALSTAGE00", "stage"
	cloud.AddUser(key, secret)
	client := ecr.New(ecr.Options{
		Region: region, Credentials: credentials.NewStaticCredentialsProvider(key, secret, ""),
		HTTPClient: &http.Client{Transport: cloud.RoundTripper()},
	})
	login, err := client.GetAuthorizationToken(noContext(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return fmt.Errorf("login: %w", err)
	}
	auth := authn.FromConfig(authn.AuthConfig{Auth: *login.AuthorizationData[0].AuthorizationToken})
	options := []remote.Option{remote.WithTransport(cloud.RoundTripper()), remote.WithAuth(auth)}
	if _, missing := remote.Head(tag, options...); missing == nil {
		return nil
	}
	made, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: runtime.GOARCH})
	if err != nil {
		return fmt.Errorf("config: %w", err)
	}
	return remote.Write(tag, made, options...)
}
