const form = document.querySelector("form");
const status = document.querySelector("output");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { password, again } = Object.fromEntries(new FormData(form));
  if (password !== again) {
    status.textContent = "The two passwords differ.";
    return;
  }
  const activateToken = new URLSearchParams(location.search).get("activateToken") ?? "";
  try {
    const answer = await fetch("/api/noauth/activate", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ activateToken, password }),
    });
    if (answer.ok) {
      form.reset();
      form.querySelector("button").disabled = true;
      status.textContent = "Done: you can log in now.";
    } else {
      const { message, hint } = await answer.json();
      status.textContent = hint ? `${message}. ${hint}` : message;
    }
  } catch {
    status.textContent = "The server cannot be reached. Try again.";
  }
});
