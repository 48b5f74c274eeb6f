package emulator_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/towline/towline/internal/emulator"
)

// login gets the registry's password as every client does.
func (w *world) login(t *testing.T) authn.Authenticator {
	t.Helper()
	out, err := w.ecr.GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.StdEncoding.DecodeString(*out.AuthorizationData[0].AuthorizationToken)
	if err != nil {
		t.Fatal(err)
	}
	user, pass, _ := strings.Cut(string(raw), ":")
	return &authn.Basic{Username: user, Password: pass}
}

func (w *world) remote(t *testing.T, auth authn.Authenticator) []remote.Option {
	t.Helper()
	return []remote.Option{
		remote.WithTransport(w.RoundTripper()), remote.WithAuth(auth), remote.WithContext(t.Context()),
		remote.WithRetryBackoff(remote.Backoff{Duration: time.Millisecond, Steps: 1}),
		remote.WithRetryPredicate(func(error) bool { return false }),
	}
}

// appImage is an image of layers with the given sizes.
func appImage(t *testing.T, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(2048, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func mustParse(t *testing.T, ref string) name.Reference {
	t.Helper()
	r, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wantRegistry(t *testing.T, err error, status int, code, message string) {
	t.Helper()
	var refused *transport.Error
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want the registry's %s", err, code)
	}
	if refused.StatusCode != status {
		t.Errorf("got status %d, want %d", refused.StatusCode, status)
	}
	if len(refused.Errors) == 0 || string(refused.Errors[0].Code) != code || !strings.Contains(refused.Errors[0].Message, message) {
		t.Errorf("got %v, want %s: %s", refused.Errors, code, message)
	}
}

func TestRegistryPushPull(t *testing.T) {
	t.Parallel()
	tests := map[string]emulator.Options{
		"memory": {},
		"disk":   {Dir: t.TempDir()},
	}
	for name, opts := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(opts)
				uri := w.AddRepository(emulator.Repository{Name: "shop/web"})
				if want := "123456789012.dkr.ecr.us-east-1.amazonaws.com/shop/web"; uri != want {
					t.Errorf("got %s, want %s", uri, want)
				}
				auth, img := w.login(t), appImage(t, 3)
				if err := remote.Write(mustParse(t, uri+":1"), img, w.remote(t, auth)...); err != nil {
					t.Fatal(err)
				}
				uploads, _ := w.Uploaded()
				if uploads != 4 {
					t.Errorf("got %d uploads, want three layers and the config", uploads)
				}
				if err := remote.Write(mustParse(t, uri+":2"), img, w.remote(t, auth)...); err != nil {
					t.Fatal(err)
				}
				if again, _ := w.Uploaded(); again != uploads {
					t.Errorf("got %d uploads, want none anew", again-uploads)
				}
				pulled, err := remote.Image(mustParse(t, uri+":2"), w.remote(t, auth)...)
				if err != nil {
					t.Fatal(err)
				}
				compareLayers(t, pulled, img)
				tags, err := remote.List(mustParse(t, uri).Context(), w.remote(t, auth)...)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff([]string{"1", "2"}, tags); diff != "" {
					t.Errorf("tags (-want +got):\n%s", diff)
				}
			})
		})
	}
}

func compareLayers(t *testing.T, got, want v1.Image) {
	t.Helper()
	gotLayers, err := got.Layers()
	if err != nil {
		t.Fatal(err)
	}
	wantLayers, err := want.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if len(gotLayers) != len(wantLayers) {
		t.Fatalf("got %d layers, want %d", len(gotLayers), len(wantLayers))
	}
	for i := range gotLayers {
		rc, err := gotLayers[i].Compressed()
		if err != nil {
			t.Fatal(err)
		}
		sum, _, err := v1.SHA256(rc)
		if err != nil {
			t.Fatal(err)
		}
		if digest, err := wantLayers[i].Digest(); err != nil || digest != sum {
			t.Errorf("layer %d: got %s, want %s (%v)", i, sum, digest, err)
		}
	}
}

func TestRegistryRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		uri := w.AddRepository(emulator.Repository{Name: "web", ImmutableTags: true})
		auth, img := w.login(t), appImage(t, 1)
		host, _, _ := strings.Cut(uri, "/")

		wantRegistry(t, remote.Write(mustParse(t, host+"/nowhere:1"), img, w.remote(t, auth)...), http.StatusNotFound,
			"NAME_UNKNOWN", "The repository with name 'nowhere' does not exist in the registry with id '123456789012'")
		_, err := remote.Get(mustParse(t, uri+":1"), w.remote(t, &authn.Basic{Username: "AWS", Password: "x"})...)
		wantRegistry(t, err, http.StatusUnauthorized, "UNAUTHORIZED", "Not Authorized")

		if err = remote.Write(mustParse(t, uri+":1"), img, w.remote(t, auth)...); err != nil {
			t.Fatal(err)
		}
		if err = remote.Write(mustParse(t, uri+":1"), img, w.remote(t, auth)...); err != nil {
			t.Errorf("same digest on an immutable tag: %v", err)
		}
		wantRegistry(t, remote.Write(mustParse(t, uri+":1"), appImage(t, 1), w.remote(t, auth)...), http.StatusBadRequest,
			"TAG_INVALID", "The image tag '1' already exists in the 'web' repository and cannot be overwritten because the tag is immutable.")

		_, err = remote.Image(mustParse(t, uri+":none"), w.remote(t, auth)...)
		wantRegistry(t, err, http.StatusNotFound, "MANIFEST_UNKNOWN", "Requested image not found")

		// A manifest before its blobs, and an index before its images.
		wantRegistry(t, remote.Put(mustParse(t, uri+":early"), appImage(t, 2), w.remote(t, auth)...), http.StatusBadRequest,
			"BLOB_UNKNOWN", "Layers with digests '[sha256:")
		early := mutate.AppendManifests(mutate.IndexMediaType(emptyIndex(t), types.OCIImageIndex), mutate.IndexAddendum{Add: appImage(t, 1)})
		wantRegistry(t, remote.Put(mustParse(t, uri+":index"), early, w.remote(t, auth)...), http.StatusBadRequest,
			"MANIFEST_BLOB_UNKNOWN", "Images with digests '[sha256:")
		if err = remote.WriteIndex(mustParse(t, uri+":index"), early, w.remote(t, auth)...); err != nil {
			t.Errorf("index after its images: %v", err)
		}

		wait(t, 12*time.Hour)
		_, err = remote.Get(mustParse(t, uri+":1"), w.remote(t, auth)...)
		wantRegistry(t, err, http.StatusForbidden,
			"DENIED", "Your authorization token has expired. Reauthenticate and try again.")
	})
}

func emptyIndex(t *testing.T) v1.ImageIndex {
	t.Helper()
	index, err := random.Index(1, 1, 0)
	if err != nil {
		t.Fatal(err)
	}
	return index
}

func TestRegistryMount(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		opts        emulator.Options
		wantMounts  int
		wantUploads int
	}{
		"on":  {wantMounts: 2, wantUploads: 4},
		"off": {opts: emulator.Options{NoBlobMounting: true}, wantUploads: 6},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(tt.opts)
				base := w.AddRepository(emulator.Repository{Name: "base"})
				app := w.AddRepository(emulator.Repository{Name: "app"})
				auth := w.login(t)
				if err := remote.Write(mustParse(t, base+":1"), appImage(t, 2), w.remote(t, auth)...); err != nil {
					t.Fatal(err)
				}
				img, err := remote.Image(mustParse(t, base+":1"), w.remote(t, auth)...)
				if err != nil {
					t.Fatal(err)
				}
				if img, err = mutate.Config(img, v1.Config{Cmd: []string{"app"}}); err != nil {
					t.Fatal(err)
				}
				if err := remote.Write(mustParse(t, app+":1"), img, w.remote(t, auth)...); err != nil {
					t.Fatal(err)
				}
				if got := len(w.Called("registry", "MOUNT blob")); got != tt.wantMounts {
					t.Errorf("got %d mounts, want %d", got, tt.wantMounts)
				}
				if got, _ := w.Uploaded(); got != tt.wantUploads {
					t.Errorf("got %d uploads, want %d", got, tt.wantUploads)
				}
			})
		})
	}
}

func TestECR(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(emulator.Options{})
		ctx := t.Context()
		uri := w.AddRepository(emulator.Repository{Name: "web"})
		img := appImage(t, 1)
		digest, err := img.Digest()
		if err != nil {
			t.Fatal(err)
		}
		if err = remote.Write(mustParse(t, uri+":1"), img, w.remote(t, w.login(t))...); err != nil {
			t.Fatal(err)
		}
		out, err := w.ecr.DescribeImages(ctx, &ecr.DescribeImagesInput{
			RepositoryName: aws.String("web"), ImageIds: []ecrtypes.ImageIdentifier{{ImageTag: aws.String("1")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := *out.ImageDetails[0].ImageDigest; got != digest.String() {
			t.Errorf("got %s, want %s", got, digest)
		}
		_, err = w.ecr.DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"other"}})
		wantCode(t, err, "RepositoryNotFoundException", "The repository with name 'other' does not exist in the registry with id '123456789012'")
		made, err := w.ecr.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: aws.String("other")})
		if err != nil {
			t.Fatal(err)
		}
		if got := *made.Repository.RepositoryUri; !strings.HasSuffix(got, "amazonaws.com/other") {
			t.Errorf("got %s", got)
		}
		_, err = w.ecr.CreateRepository(ctx, &ecr.CreateRepositoryInput{RepositoryName: aws.String("other")})
		wantCode(t, err, "RepositoryAlreadyExistsException", "already exists")
		layers, err := w.ecr.BatchCheckLayerAvailability(ctx, &ecr.BatchCheckLayerAvailabilityInput{
			RepositoryName: aws.String("other"), LayerDigests: []string{digest.String()},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got := layers.Layers[0].LayerAvailability; got != ecrtypes.LayerAvailabilityUnavailable {
			t.Errorf("got %s, want UNAVAILABLE: a blob belongs to its repository", got)
		}
		images, err := w.ecr.BatchGetImage(ctx, &ecr.BatchGetImageInput{
			RepositoryName: aws.String("web"), ImageIds: []ecrtypes.ImageIdentifier{{ImageTag: aws.String("1")}},
		})
		if err != nil {
			t.Fatal(err)
		}
		put := &ecr.PutImageInput{RepositoryName: aws.String("web"), ImageTag: aws.String("2"), ImageManifest: images.Images[0].ImageManifest}
		if _, err = w.ecr.PutImage(ctx, put); err != nil {
			t.Fatal(err)
		}
		_, err = w.ecr.PutImage(ctx, put)
		wantCode(t, err, "ImageAlreadyExistsException", "already exists")
	})
}

// TestSocket does a push and an update over a real socket, with everything at
// one address.
func TestSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(emulator.Options{Pace: time.Millisecond})
	server := httptest.NewServer(w.Cloud)
	t.Cleanup(server.Close)
	w.AddRepository(emulator.Repository{Name: "web"})
	w.service(t, 1, nil)
	cfg := aws.Config{
		Region: "us-east-1", BaseEndpoint: &server.URL, HTTPClient: server.Client(),
		Credentials: credentials.NewStaticCredentialsProvider(testKey, testSecret, ""),
	}
	w.ecr, w.ecs = ecr.NewFromConfig(cfg), newECS(cfg)
	repos, err := w.ecr.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"web"}})
	if err != nil {
		t.Fatal(err)
	}
	uri := *repos.Repositories[0].RepositoryUri
	if want := strings.TrimPrefix(server.URL, "http://") + "/web"; uri != want {
		t.Errorf("got %s, want %s", uri, want)
	}
	img := appImage(t, 2)
	if err = remote.Write(mustParse(t, uri+":1"), img, remote.WithAuth(w.login(t)), remote.WithTransport(server.Client().Transport)); err != nil {
		t.Fatal(err)
	}
	pulled, err := remote.Image(mustParse(t, uri+":1"), remote.WithAuth(w.login(t)), remote.WithTransport(server.Client().Transport))
	if err != nil {
		t.Fatal(err)
	}
	compareLayers(t, pulled, img)
	w.deploy(t)
}
