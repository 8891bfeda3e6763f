// How many of each: a list of bars.

import { html } from "../vendor/htm-preact.js";

// `rows` are [label, count]; the longest bar is the largest count.
export function Counts({ label, rows, empty = "None." }) {
  const most = Math.max(1, ...rows.map(([, count]) => count));
  if (!rows.length) return html`<p class="quiet">${empty}</p>`;
  return html`
    <table class="tally" aria-label=${label}>
      <tbody>
        ${rows.map(([name, count]) => html`
          <tr key=${name}>
            <th scope="row">${name}</th>
            <td class="share">${count > 0 && html`<span style=${{ width: `${(100 * count) / most}%` }}></span>`}</td>
            <td class="number">${count}</td>
          </tr>`)}
      </tbody>
    </table>
  `;
}
