// Server says which version it is.
package main

import (
	"encoding/json"
	"log"
	"net/http"
)

const version = "0"

func main() {
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if err := json.NewEncoder(w).Encode(map[string]string{"version": version}); err != nil {
			log.Print(err)
		}
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
