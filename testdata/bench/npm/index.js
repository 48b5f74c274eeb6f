console.log(require("package-000"));
