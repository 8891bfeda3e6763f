// Files that come from the user, and that are given to the user.

// Give a value as a JSON file.
export function saveJson(name, value) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value, null, 2)], { type: "application/json" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name.replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 100) || "file"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url));
}

// The JSON of a file. Raises Error.
export async function readJson(file) {
  try {
    return JSON.parse(await file.text());
  } catch (error) {
    throw new Error(`${file.name} is no JSON: ${error.message}`);
  }
}
