// Command server answers with a quote.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"

	"github.com/go-chi/chi/v5"
)

func main() {
	r := chi.NewRouter()
	r.Get("/quotes/{name}", func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "%s, from user %d\n", chi.URLParam(req, "name"), os.Getuid())
	})
	log.Fatal(http.ListenAndServe(":8080", r))
}
